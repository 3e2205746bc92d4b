"""What the converters to COCO format share."""
