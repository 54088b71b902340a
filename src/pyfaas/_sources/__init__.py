"""Where events come in: what a trigger says is made a running thing here. No source imports another one."""
