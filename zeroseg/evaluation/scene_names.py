"""Class names of the sets without a background class, in the order of their training ids; see class_names for kinds."""

from __future__ import annotations

from zeroseg.evaluation.class_names import COCO_THINGS, spoken_name

# COCO-Stuff's category ids 92 to 182
COCO_STUFF = (
    "banner,blanket,branch,bridge,building-other,bush,cabinet,cage,cardboard,carpet,ceiling-other,ceiling-tile,cloth,"
    "clothes,clouds,counter,cupboard,curtain,desk-stuff,dirt,door-stuff,fence,floor-marble,floor-other,floor-stone,"
    "floor-tile,floor-wood,flower,fog,food-other,fruit,furniture-other,grass,gravel,ground-other,hill,house,leaves,"
    "light,mat,metal,mirror-stuff,moss,mountain,mud,napkin,net,paper,pavement,pillow,plant-other,plastic,platform,"
    "playingfield,railing,railroad,river,road,rock,roof,rug,salad,sand,sea,shelf,sky-other,skyscraper,snow,solid-other,"
    "stairs,stone,straw,structural-other,table,tent,textile-other,towel,tree,vegetable,wall-brick,wall-concrete,"
    "wall-other,wall-panel,wall-stone,wall-tile,wall-wood,water-other,waterdrops,window-blind,window-other,wood"
).split(",")
COCO_STUFF_OFFICIAL = [*COCO_THINGS, *COCO_STUFF]
COCO_STUFF_PLAIN = [spoken_name(name) for name in COCO_STUFF_OFFICIAL]

ADE20K_OFFICIAL = (
    "wall,building,sky,floor,tree,ceiling,road,bed,windowpane,grass,cabinet,sidewalk,person,earth,door,table,mountain,"
    "plant,curtain,chair,car,water,painting,sofa,shelf,house,sea,mirror,rug,field,armchair,seat,fence,desk,rock,"
    "wardrobe,lamp,bathtub,railing,cushion,base,box,column,signboard,chest of drawers,counter,sand,sink,skyscraper,"
    "fireplace,refrigerator,grandstand,path,stairs,runway,case,pool table,pillow,screen door,stairway,river,bridge,"
    "bookcase,blind,coffee table,toilet,flower,book,hill,bench,countertop,stove,palm,kitchen island,computer,"
    "swivel chair,boat,bar,arcade machine,hovel,bus,towel,light,truck,tower,chandelier,awning,streetlight,booth,"
    "television receiver,airplane,dirt track,apparel,pole,land,bannister,escalator,ottoman,bottle,buffet,poster,stage,"
    "van,ship,fountain,conveyer belt,canopy,washer,plaything,swimming pool,stool,barrel,basket,waterfall,tent,bag,"
    "minibike,cradle,oven,ball,food,step,tank,trade name,microwave,pot,animal,bicycle,lake,dishwasher,screen,blanket,"
    "sculpture,hood,sconce,vase,traffic light,tray,ashcan,fan,pier,crt screen,plate,monitor,bulletin board,shower,"
    "radiator,glass,clock,flag"
).split(",")
# the same things as one says them today
_ADE20K_SPOKEN = {
    "windowpane": "window",
    "signboard": "sign",
    "grandstand": "bleachers",
    "television receiver": "television",
    "apparel": "clothes",
    "bannister": "banister",
    "conveyer belt": "conveyor belt",
    "washer": "washing machine",
    "plaything": "toy",
    "minibike": "motorbike",
    "trade name": "brand name",
    "ashcan": "trash can",
    "crt screen": "computer screen",
    "hovel": "hut",
    "palm": "palm tree",
}
ADE20K_PLAIN = [_ADE20K_SPOKEN.get(name, name) for name in ADE20K_OFFICIAL]

CITYSCAPES_OFFICIAL = (
    "road,sidewalk,building,wall,fence,pole,traffic light,traffic sign,vegetation,terrain,sky,person,rider,car,truck,"
    "bus,train,motorcycle,bicycle"
).split(",")
_CITYSCAPES_SPOKEN = {"vegetation": "tree", "terrain": "grass", "rider": "cyclist"}
CITYSCAPES_PLAIN = [_CITYSCAPES_SPOKEN.get(name, name) for name in CITYSCAPES_OFFICIAL]
# *_gtFine_labelIds.png: the ids of the 19 classes in the order of their training ids
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
