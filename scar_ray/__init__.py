"""scar_ray: RLHF on Ray in which every token, phrase or sentence gets the part of the reward it earned."""

__version__ = "0.1.0"
