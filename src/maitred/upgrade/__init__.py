"""
What one program tells the next: the snapshot, with its descriptors.

    snapshot     the state as it travels, and the table of descriptors beside it
    serialize    how it is written, and read again
    key_pages    the key table, which is too large to be written in one go

May import ``placement``, for the rows of the key table, and ``config`` and ``wire``,
whose versions have to agree; it knows nobody whose state it carries.
"""
