"""Media that the tests make: numbered pictures in any container and codec, and the defects that real files have.

`pictures` draws and reads a picture, `clips` encodes them, `damage` changes the bytes or the packets of a clip, and
`named` holds the clips that several tests share. ``python -m tests.media FOLDER`` writes those as files.
"""
