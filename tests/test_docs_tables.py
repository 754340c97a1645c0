"""What the tables of the pages say is so, in each language."""

import re

from pages import ROOT
from test_docs_code import pages

FINDINGS = ''.join(
    (ROOT / 'mmpartinit' / f'{name}.py').read_text()
    for name in ('findings', 'planning', 'preview')
)


@pages('report')
def test_the_findings_are_those_that_there_are(page):
    told = [row[0].strip('`') for row in page.rows() if len(row) == 4]
    assert len(set(told)) == len(told)
    for code in told:
        assert f"'{code}'" in FINDINGS
    made = re.findall(
        r"(?:'(?:warning|note|error)'[^,]*,|remarks.append\(\()\s*'([a-z-]+)'",
        FINDINGS,
    )
    assert set(made) <= set(told)
    # All of them but one, whose level is worked out, are found that way.
    assert set(told) - set(made) <= {'unused-layer'}
