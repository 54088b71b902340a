"""One sandbox's life: the wire (pure), the children's side (zygote, worker, loader), the host's handle."""
