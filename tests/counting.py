"""A segmenter that counts how often its network runs."""

from zeroseg.segment.segmenter import Segmenter


class CountingRunner:
    """The runner that it is given, counting the images that run() takes."""

    def __init__(self, inner):
        self._inner, self.images = inner, 0

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def run(self, image):
        self.images += len(image)
        return self._inner.run(image)


def counting(segmenter: Segmenter) -> Segmenter:
    """The segmenter again, with the same labels; its runner.images is the number of images that its network ran on."""
    counted = Segmenter(CountingRunner(segmenter.runner), segmenter.sidecar)
    counted.pack = segmenter.pack
    return counted
