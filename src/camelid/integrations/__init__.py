"""Other people's buildings: each lets one outside system start, feed or deploy the runtime."""
