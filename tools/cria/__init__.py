"""The recipe of cria, Camelid's bundled model: data, training, export and measurement. Not part of the package."""
