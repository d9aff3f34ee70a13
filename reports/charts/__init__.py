"""Small charts as inline SVG text: pure functions of numbers and labels, no script, no file, no address.

Colours are CSS classes that the report's stylesheet defines for light and dark; shape and text repeat whatever a
colour says. Every text is escaped here, so a hostile label stays a label. Lengths are CSS pixels at full size.

It imports no other part of this project.
"""
