"""Check and repair of annotation files.

`annotation_table` reads a file into columns, `dataset_check` finds what is wrong, `dataset_repair`
writes a better copy.
"""
