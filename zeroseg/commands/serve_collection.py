"""zeroseg-serve --collection: the search page, alone or together with the page for photos."""

import click

from zeroseg.commands.ending import asked_to_end, wait_for_end
from zeroseg.commands.index_run import storage_options
from zeroseg.commands.live_run import LiveOptions, serve_photos
from zeroseg.search.collection import Collection


def serve_collection(options: LiveOptions, path: str, root: str | None) -> None:
    """Serve until Ctrl-C. Without labels no network is loaded. Raises ZerosegError if it cannot open the collection."""
    from zeroseg.live.server import check_exposure  # imported first, because it names the extra if something is missing

    check_exposure(options.host, options.token, options.insecure)
    collection = Collection.open(path, root, storage_options())
    collection.state()
    if options.labels:
        serve_photos(options, collection)
        return
    from zeroseg.live.guard import LOCAL
    from zeroseg.live.listening import Listening
    from zeroseg.live.search_page import make_search_app

    app = make_search_app(collection, options.token, options.host not in LOCAL, options.text)
    with asked_to_end() as asked:
        server = Listening(app, options.host, options.port, options.token).start()
        try:
            click.echo(f"page: {server.address}  (Ctrl-C ends)")
            wait_for_end(asked)
        finally:
            server.stop()
