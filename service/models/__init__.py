"""The models of a service: what is loaded, and how one version takes the place of another."""
