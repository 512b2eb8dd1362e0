"""Reports: what runs show, as text and as a page, with the same content."""
