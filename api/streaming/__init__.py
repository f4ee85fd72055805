"""Live streams: audio in while it is spoken, words out while they are heard.

endpoints.stream → connection → sessions (or a neighbour's) → session
session:  inbox → listener (decoder, endpointer) → recognizer → Triton
          Triton → partials, speakers → outbox → connection
"""
