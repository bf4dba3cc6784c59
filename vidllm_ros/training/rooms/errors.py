"""The error of this room of the package."""


class RoomError(ValueError):
    """An argument that no room can be made from; the message names the value, the limit and what to do."""
