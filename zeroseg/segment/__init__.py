"""The path of an image: prepare -> network -> segments; segments x labels -> scores -> masks. One file per step."""
