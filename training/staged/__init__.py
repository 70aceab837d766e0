"""Training in stages from single frames and boxes: first where to look, then what is seen there."""
