"""PAGE and ALTO as other programs write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocrsdk.errors import AnnotationError
from ocrsdk.formats.base import LabelledPage
from ocrsdk.formats.files import LabelFile
from ocrsdk.formats.make import make_format, read_pages

PAGE = """<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<PcGts xmlns="http://schema.primaresearch.org/PAGE/gts/pagecontent/2013-07-15">
  <Metadata><Creator/></Metadata>
  <Page imageFilename="0001.jpg" imageWidth="300" imageHeight="200">
    <TextRegion id="r1" custom="readingOrder {index:0;}">
      <Coords points="0,0 299,0 299,199 0,199"/>
      <TextLine id="l1" custom="readingOrder {index:0;}">
        <Coords points="10,10 90,12 90,30 10,28"/>
        <Baseline points="10,26 90,28"/>
        <Word id="w1"><Coords points="10,10 40,11 40,29 10,28"/><TextEquiv><Unicode>two</Unicode></TextEquiv></Word>
        <Word id="w2"><Coords points="50,10 90,12 90,30 50,28"/><TextEquiv><Unicode>words</Unicode></TextEquiv></Word>
        <TextEquiv index="1"><Unicode>tow words</Unicode></TextEquiv>
        <TextEquiv index="0"><Unicode>two words</Unicode></TextEquiv>
      </TextLine>
      <TextRegion id="r2"><Coords points="0,0 9,0 9,9"/>
        <TextLine id="l2"><Coords><Point x="100" y="100"/><Point x="150" y="100"/><Point x="150" y="120"/></Coords></TextLine>
      </TextRegion>
    </TextRegion>
  </Page>
</PcGts>
"""
ALTO = """<?xml version="1.0"?>
<alto xmlns="http://www.loc.gov/standards/alto/ns-v3#">
 <Description><MeasurementUnit>pixel</MeasurementUnit>
  <sourceImageInformation><fileName>scans\\0001.tif</fileName></sourceImageInformation></Description>
 <Layout><Page ID="p" WIDTH="300" HEIGHT="200"><PrintSpace><TextBlock ID="b">
   <TextLine HPOS="10" VPOS="10" WIDTH="80" HEIGHT="20"><String CONTENT="two" HPOS="10" VPOS="10" WIDTH="30" HEIGHT="20"/><SP/>
     <String CONTENT="words" HPOS="50" VPOS="10" WIDTH="40" HEIGHT="20"/></TextLine>
   <TextLine HPOS="0" VPOS="0" WIDTH="1" HEIGHT="1"><Shape><Polygon POINTS="100 100 150 100 150 120"/></Shape></TextLine>
 </TextBlock></PrintSpace></Page></Layout>
</alto>
"""


def read(tmp_path: Path, name: str, text: str, **options: object) -> LabelledPage:
    path = tmp_path / "0001.xml"
    path.write_text(text)
    (page,) = read_pages(make_format(name, options), LabelFile(path))
    return page


@pytest.mark.parametrize(("name", "text"), [("page", PAGE), ("alto", ALTO)])
def test_lines_and_words(tmp_path: Path, name: str, text: str):
    lines, words = read(tmp_path, name, text), read(tmp_path, name, text, level="word")
    assert [i.text for i in lines.instances] == ["two words", ""]
    assert lines.instances[1].polygon.tolist() == [[100, 100], [150, 100], [150, 120]]
    assert [i.text for i in words.instances] == ["two", "words"]
    assert words.instances[1].polygon.tolist()[0] == [50, 10]
    assert lines.size == (200, 300)
    assert not lines.faults


def test_faults_have_their_lines(tmp_path: Path):
    page = read(tmp_path, "page", PAGE.replace("10,10 90,12", "10,x 90,12").replace('<Point x="100" y="100"/>', ""))
    assert [str(page.error(fault)).partition("0001.xml")[2][:40] for fault in page.faults] == [
        ":8: coordinate 'x' is not a number", ":16: 4 coordinates, expected an even num",
    ]  # fmt: skip


def test_alto_in_millimetres_is_refused(tmp_path: Path):
    with pytest.raises(AnnotationError, match=r"0001.xml:3: its coordinates are in 'mm10'; export it with MeasurementUnit pixel"):
        read(tmp_path, "alto", ALTO.replace(">pixel<", ">mm10<"))
