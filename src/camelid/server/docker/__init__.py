"""The API of Docker Model Runner: models as artifacts, beside the dialects that it passes on."""
