"""Small charts as inline SVG text: pure functions of numbers and labels, no script, no file, no address.

Colours are CSS classes that the report's stylesheet defines for light and dark. Shapes and texts repeat the information
that a colour carries. Every text is escaped here, so a hostile label cannot inject markup. Lengths are CSS pixels at
full size.

It imports no other part of this project.
"""
