// The scores of Sphinx's search, but for what is as long as a sentence: that is
// a message that was pasted, and its page comes first.
var Scorer = {
  score: ([page, , , , score]) => {
    const query = new URLSearchParams(location.search).get('q') || ''
    const isMessage = query.trim().split(/\s+/).length > 3
    return isMessage && page === 'messages' ? score + 15 : score
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
}
