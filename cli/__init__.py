"""The command line `adafocus`: one module per verb, imported only when the verb is called."""
