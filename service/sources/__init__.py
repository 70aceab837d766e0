"""Videos where they are: a URL or an object store in the place of an upload, of which only parts are fetched."""
