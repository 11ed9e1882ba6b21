"""A person's songs as files: which they are, what was found out about them, and tags written into them."""
