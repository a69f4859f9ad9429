"""Programs that grow by parts of others."""
