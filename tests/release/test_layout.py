"""Where things are put on a host, and what becomes of what is there."""

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from release import environment, layout
from release.failures import ReleaseError
from release.layout import Place

ENV = "etc/hbtd/hbtd.env"


class LayoutTests(SynchronousTestCase):
    """An environment with nothing but the files that are put elsewhere."""

    def setUp(self) -> None:
        """Make a root for them."""
        self.root = Path(self.mktemp()).resolve()
        self.place = Place(self.root, "/usr", "/srv/hbtd")

    def built(self, options: str = "A=1\n", documents: tuple[str, ...] = ("README.md",)) -> Path:
        """Make an environment, as if built for a place."""
        built = self.root / "srv" / "hbtd.new"
        for name, text in (
            ("share/hbtd/systemd/hbtd.service", "ExecStart=/opt/hbtd/bin/hbtd\n"),
            ("share/hbtd/systemd/hbtd.env", options),
            ("share/hbtd/systemd/hbtd.sysusers", "u hbtd\n"),
            ("share/hbtd/systemd/hbtd.tmpfiles", "d /etc/hbtd\n"),
            ("share/man/man1/hbtctl.1", ".TH\n"),
            ("share/man/man1/nodeset.1", ".TH\n"),
            ("share/man/man8/hbtd-agent.8", ".TH\n"),
            *((f"share/doc/hbtd/{each}", "Text.\n") for each in documents),
            ("bin/python", "#!/bin/sh\necho complete $6\n"),
            ("lib/python3.11/site-packages/hbtd-1.2.dist-info/METADATA", "Version: 1.2\n"),
            (
                "lib/python3.11/site-packages/hbtd-1.2.dist-info/entry_points.txt",
                "[console_scripts]\nhbtd = a:b\nhbtctl = a:b\n",
            ),
        ):
            path = built / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (built / "bin/python").chmod(0o755)
        return built

    def install(self, options: str = "A=1\n", **kwargs: tuple[str, ...]) -> list[str]:
        """Install a version; return what is said."""
        return layout.lay_out(self.place, self.built(options, **kwargs))

    def text(self, path: str) -> str:
        """Return the contents of a file below the root."""
        return (self.root / path).read_text()

    def test_not_ours(self):
        """A directory that is no environment of hbtd is neither replaced nor removed."""
        other = self.root / "srv" / "hbtd"
        other.mkdir(parents=True)
        layout.check_replaceable(other)
        (other / "data").touch()
        self.assertRaises(ReleaseError, layout.build, self.place, [])
        self.assertRaises(ReleaseError, layout.remove, self.place)
        self.assertTrue((other / "data").exists())
        link = self.root / "link"
        link.symlink_to(other)
        self.assertRaises(ReleaseError, layout.check_replaceable, link)

    def test_places(self):
        """Everything is where a host looks for it, and names the environment."""
        self.assertEqual(self.install(), [])
        unit = self.text("usr/lib/systemd/system/hbtd.service")
        self.assertEqual(unit, "ExecStart=/srv/hbtd/bin/hbtd\n")
        self.assertEqual(self.text("usr/lib/sysusers.d/hbtd.conf"), "u hbtd\n")
        self.assertEqual(self.text("usr/lib/tmpfiles.d/hbtd.conf"), "d /etc/hbtd\n")
        self.assertEqual((self.root / ENV).stat().st_mode & 0o777, 0o640)
        for shell, path in (
            ("bash", "bash-completion/completions/hbtctl"),
            ("zsh", "zsh/site-functions/_hbtctl"),
        ):
            self.assertEqual(self.text(f"usr/share/{path}"), f"complete {shell}\n")
        pages = sorted(path.name for path in (self.root / "usr/share/man").rglob("*.?"))
        self.assertEqual(pages, ["hbtctl.1"])  # neither those of others nor the agent's
        for name in ("hbtd", "hbtctl"):
            link = (self.root / "usr/bin" / name).readlink()
            self.assertEqual(str(link), f"/srv/hbtd/bin/{name}")
        self.assertEqual(environment.version(self.place.environment), "1.2")
        self.assertFalse((self.root / "srv" / "hbtd.new").exists())

    def test_edited(self):
        """Edited options are kept, with the new ones beside them until they are the same."""
        self.install()
        (self.root / ENV).write_text("A=2\n")
        (said,) = self.install("A=3\n")
        self.assertIn("/etc/hbtd/hbtd.env has been edited and is kept", said)
        self.assertEqual((self.text(ENV), self.text(f"{ENV}.new")), ("A=2\n", "A=3\n"))
        (self.root / ENV).write_text("A=3\n")
        self.assertEqual(self.install("A=3\n"), [])
        self.assertFalse((self.root / f"{ENV}.new").exists())

    def test_unedited(self):
        """Options that nobody has edited are replaced, however often."""
        for options in ("A=1 /opt/hbtd/x\n", "A=2 /opt/hbtd/x\n", "A=3\n"):
            self.assertEqual(self.install(options), [])
            self.assertEqual(self.text(ENV), options.replace("/opt/hbtd", "/srv/hbtd"))

    def test_foreign(self):
        """Options that were there before the first installation are kept."""
        (self.root / ENV).parent.mkdir(parents=True)
        (self.root / ENV).write_text("A=0\n")
        self.assertEqual(len(self.install()), 1)
        self.assertEqual(self.text(ENV), "A=0\n")

    def test_broken_off(self):
        """What an installation has left that was broken off does not matter to the next one."""
        self.install()
        (self.root / "srv" / "hbtd.old").mkdir()
        (self.root / "srv" / "hbtd.old" / "file").touch()
        (self.root / "usr" / "bin" / "hbtd").unlink()
        self.install()
        self.assertEqual([path.name for path in (self.root / "srv").iterdir()], ["hbtd"])
        self.assertTrue((self.root / "usr" / "bin" / "hbtd").is_symlink())

    def test_removed(self):
        """Nothing is left but edited options; folders of others stay, also empty ones."""
        (self.root / "usr/share/man/man5").mkdir(parents=True)
        self.install()
        (self.root / ENV).write_text("A=2\n")
        (said,) = layout.remove(self.place)
        self.assertIn("kept", said)
        self.assertEqual(
            [each for each in self.root.rglob("*") if not each.is_dir()], [self.root / ENV]
        )
        self.assertFalse((self.root / "usr/share/doc/hbtd").exists())
        self.assertTrue((self.root / "usr/share/man/man5").exists())

    def test_removed_unedited(self):
        """Options that nobody has edited are removed, too, with their folder."""
        self.install()
        self.assertEqual(layout.remove(self.place), [])
        self.assertFalse((self.root / "etc/hbtd").exists())

    def test_nothing_to_remove(self):
        """Where nothing is installed, nothing is touched."""
        (self.root / ENV).parent.mkdir(parents=True)
        (self.root / ENV).touch()
        error = self.assertRaises(ReleaseError, layout.remove, self.place)
        self.assertIn("nothing is installed", str(error))
        self.assertTrue((self.root / ENV).exists())
