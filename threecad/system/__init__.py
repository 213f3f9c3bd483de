"""Files, folders, processes: what every room above stands on."""
