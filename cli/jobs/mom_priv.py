"""Where pbs_mom has its directory on this node."""

import os
import re
from pathlib import Path

CONF = "/etc/pbs.conf"
HOMES = ("/var/spool/torque", "/var/spool/pbs")
HOME = re.compile(r"^\s*PBS_(?:MOM_)?HOME\s*=\s*(\S+)", re.MULTILINE)


def mom_priv() -> Path | None:
    """Return the directory mom_priv of PBS or Torque, or None if there is none on this node."""
    conf = Path(os.environ.get("PBS_CONF_FILE") or CONF)
    named = HOME.findall(conf.read_text(errors="replace")) if conf.is_file() else []
    homes = [home for home in (os.environ.get("PBS_HOME"), *reversed(named), *HOMES) if home]
    return next((Path(home, "mom_priv") for home in homes if Path(home, "mom_priv").is_dir()), None)
