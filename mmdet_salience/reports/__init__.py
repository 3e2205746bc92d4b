"""Pages that open from disk: one HTML file each, pictures, styles and scripts inside."""

from .page import image_uri, render_page, write_page

__all__ = ['image_uri', 'render_page', 'write_page']
