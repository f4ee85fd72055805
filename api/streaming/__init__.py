"""Live streams: audio in while it is spoken, words out while they are heard.

endpoints.stream → connection → session → listener → decoder, endpointer
                                        → recognizer → Triton
                                        → partials, speakers
                                        → outbox → connection
"""
