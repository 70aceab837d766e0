"""The command `adafocus`: one file per verb; a verb opens its wing only when it is called."""
