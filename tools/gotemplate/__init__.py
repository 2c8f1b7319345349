"""Our interpreter of Go templates against Go itself: the comparison, and the table that the tests keep of it."""
