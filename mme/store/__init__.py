"""Where the bytes are: S3 or a directory, unpacked into a disk tier keyed by version.

What never bends: no path is built from a client's string; an artifact directory appears whole, by
one rename, or not at all; a hostile tarball leaves nothing behind. It calls no other room.
"""
