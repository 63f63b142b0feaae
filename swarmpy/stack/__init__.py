"""Stack files: Compose files in, service specs and the steps to them out.

Owns reading (`load`, with file and line of every key), interpolation, merging, the keys that are honoured
(`schema`), conversion, and the plan of a deploy. Reads the files that the user names, their `.env` and env files;
writes nothing and talks to nobody.
"""
