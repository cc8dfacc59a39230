"""The demonstration: sample studies through a whole bonewatch on this machine."""
