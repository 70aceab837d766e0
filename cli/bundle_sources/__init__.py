"""Where `adafocus pull` fetches bundles from: web servers, object stores and registries."""
