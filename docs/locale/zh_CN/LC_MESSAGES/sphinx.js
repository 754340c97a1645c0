// What the search says: the catalogue of Sphinx 8.2 has no plurals.
Documentation.addTranslations({
  locale: 'zh_Hans_CN',
  messages: {
    ', in ': '，在 ',
    'Hide Search Matches': '隐藏搜索结果',
    'Preparing search...': '正在准备搜索……',
    'Search Results': '搜索结果',
    Searching: '正在搜索',
    'Search finished, found one page matching the search query.': [
      '搜索完成，匹配到 ${resultCount} 页。',
    ],
    "Your search did not match any documents. Please make sure that all words are spelled correctly and that you've selected enough categories.":
      '没有匹配到任何页面。请检查关键词的写法。',
  },
  plural_expr: '0',
})
