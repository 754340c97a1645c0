// Ask the search of built pages for words, as a browser does, and behind a
// sign of equality for the page that has to come first:
// node docs/search.js docs/_build/zh_cn 骨干 冻结 path-not-found=messages
const fs = require('fs')
const path = require('path')
const vm = require('vm')

const [folder, ...words] = process.argv.slice(2)
// What the pages' scripts ask of a browser before anything is searched for.
const browser = {
  DOCUMENTATION_OPTIONS: {},
  SPHINX_HIGHLIGHT_ENABLED: false,
  document: {
    addEventListener() {},
    getElementById() {},
    readyState: 'loading',
  },
  window: {},
  URLSearchParams,
}
vm.createContext(browser)
for (const script of [
  '_static/doctools.js',
  '_static/language_data.js',
  '_static/searchtools.js',
  'searchindex.js',
]) {
  const file = path.join(folder, script)
  vm.runInContext(fs.readFileSync(file, 'utf8'), browser, file)
}
for (const asked of words) {
  const [word, page] = asked.split('=')
  browser.word = word
  browser.location = { search: `?q=${word}` }
  const found = vm.runInContext(
    'Search._performSearch(...Search._parseQuery(word))',
    browser,
  )
  // The last of them is shown first.
  const [first] = found.pop() || []
  console.log(`${word}: ${found.length} more than ${first}`)
  if (!first || (page && page !== first)) process.exitCode = 1
}
