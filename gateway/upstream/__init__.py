"""HTTP towards providers and the desk: the only room that opens connections for calls."""
