"""Read the exports of other tools.

`tools` has a module for each tool, and `registry` lists them. Modules recognize files by content,
yield rows with offsets in characters, and count the parts that are not carried over.
"""
