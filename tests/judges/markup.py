# SPDX-License-Identifier: Apache-2.0
"""HTML as tags and words; what is not well formed is refused."""

import html.parser


class Page(html.parser.HTMLParser):
  """Tags with their attributes, and the text between them."""

  EMPTY = ("meta", "br", "link", "img", "input")

  def __init__(self, text):
    super().__init__()
    self.tags, self.open, self.words = [], [], []
    self.feed(text)
    self.close()
    assert not self.open, self.open

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))
    if tag not in self.EMPTY:
      self.open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.words.append(data)

  def all(self, tag, **wanted):
    return [
      attrs
      for name, attrs in self.tags
      if name == tag and all(attrs.get(k) == v for k, v in wanted.items())
    ]
