WORD = "packed"
