"""Data sets as their authors release them, with the published counts that they are checked against."""
