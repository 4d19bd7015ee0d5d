"""What a cell of a grid is, and what it leaves behind: the hinge between running and reporting."""
