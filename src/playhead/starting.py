"""What the queue and Python start: addresses and options -> downloads that give their connections back."""

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

from playhead import places
from playhead.assemble import Trees
from playhead.blob import Blob
from playhead.config import Config
from playhead.doors import digests
from playhead.doors.download import Download, holder
from playhead.doors.route import Host, Rate
from playhead.errors import Malformed
from playhead.gathering import MOST, FromTree, Gathering, Options, authority, shown
from playhead.gathering import last as last_of
from playhead.tree import Tree


class Queued(Download):
    """A download of the queue, which gives its connections back when it ends."""

    trees: Sequence[Tree] = ()

    async def run(self) -> None:
        try:
            await super().run()
        finally:
            for tree in self.trees:
                await tree.aclose()


class Starting:
    """(addresses, aria2's options) -> a download, as the queue starts it. See `app.items.Start`."""

    def __init__(self, config: Config) -> None:
        self.config, self.hosts, self.rate, self.taken = config, dict[str, Host](), Rate(), set[Path]()

    def __call__(self, uris: Sequence[str], options: Mapping[str, str]) -> Queued:
        """The first address is the file's, the others are mirrors. Raises a Failure."""
        ways = [self._way(uri, options) for uri in uris]
        tree, path = ways[0]
        name = path.rpartition("/")[2] or last_of(uris[0])
        source = FromTree(
            shown(uris[0]),
            uris[0],
            name,
            [(shown(uri), *way) for uri, way in zip(uris, ways, strict=True)],
            len(ways) - 1,
            "checksum" in options,
        )
        host = self.hosts.setdefault(authority(tree), Host(MOST, rate=self.rate, taken=self.taken))
        folder, given = Path(options.get("dir", ".")), options.get("out")
        over, rename = options.get("allow-overwrite") == "true", options.get("auto-file-renaming") != "false"
        made = Queued(
            source,
            lambda proposed: holder(folder / (given or proposed)),
            host,
            streams=int(options["split"]) if "split" in options else None,
            digests=[digests.parsed(options["checksum"])] if "checksum" in options else [],
            exists="overwrite" if over else "rename" if rename else "refuse",
        )
        made.trees = [tree for tree, _ in ways]
        return made

    def _way(self, uri: str, options: Mapping[str, str]) -> tuple[Tree, str]:
        if "://" not in uri:
            return Trees(self.config).bare(uri)
        sent = dict(line.split(":", 1) for line in options.get("header", "").split("\n") if ":" in line)
        for key, header in (("referer", "Referer"), ("user-agent", "User-Agent")):
            if key in options:
                sent[header] = options[key]
        tree = places.web(
            uri,
            headers={name.strip(): value.strip() for name, value in sent.items()},
            user=options.get("http-user"),
            password=options.get("http-passwd"),
        )
        if tree.single is None:
            raise Malformed(f"{shown(uri)} is a folder; a download of the queue is a file")
        return tree, tree.single


async def fetched(source: str | Blob, target: Path, options: Options) -> Path:
    """What `playhead.download` does."""
    gathering = Gathering(Config(), replace(options, output=str(target)))
    try:
        if isinstance(source, Blob):
            found = gathering.blob(source, target.name)
            await found.run()
            return found.path or target
        async with aclosing(gathering.downloads([source], lambda line: None)) as downloads:
            async for found in downloads:
                await found.run()
                last = found.path
        return last or target
    finally:
        await gathering.aclose()
