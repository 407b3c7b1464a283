"""Tell the application's own code from libraries'."""

import os
import sysconfig

INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
# The application may lie in a directory above these, as with `--app-dir /`.
NOT_OWN = (
    os.path.join(sysconfig.get_path("stdlib"), ""),
    os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), ""),
)


def is_installed(file: str) -> bool:
    """Return whether a file was put where pip installs packages."""
    return any(place in file for place in INSTALLED)


class OwnCode:
    """What belongs to the application: its package, and modules below `app_dir`.

    `app` is the application as the settings name it, `module:attribute`. Its package counts
    wherever it is installed; below `app_dir`, libraries of a virtual environment do not count.
    """

    def __init__(self, app: str, directory: str) -> None:
        self.package = app.partition(":")[0].partition(".")[0]
        paths = {os.path.abspath(directory), os.path.realpath(directory)}
        self.directories = tuple(os.path.join(path, "") for path in paths)

    def has(self, module: str, file: str) -> bool:
        """Return whether a module of this name, loaded from this file, is the application's."""
        if module == self.package or module.startswith(f"{self.package}."):
            return True
        return (
            file.startswith(self.directories)
            and not file.startswith(NOT_OWN)
            and not is_installed(file)
        )

    def short(self, file: str) -> str:
        """Return the path of a file as it is called in messages: from `app_dir` on."""
        for directory in self.directories:
            if file.startswith(directory):
                return file[len(directory) :]
        return file
