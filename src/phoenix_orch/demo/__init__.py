"""The demonstration: a shop with real traffic, one good release and three bad ones."""
