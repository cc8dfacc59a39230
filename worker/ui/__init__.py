"""The web page: Streamlit, over the same database and the same functions as the commands.

    serve.py    the server: address, login (login.py, people.py), and the Streamlit script app.py behind it
    app.py      what every visit runs: who looks, which page
    visit.py    who is looking and what they may do; every look and every button is an event (audit)
    page_*.py   one page each: a function `show(visit)`; app.py lists them
    viewer.py   the image with its boxes, sharp at every zoom

Text from DICOM files and file names is only given to elements that show plain text, or escaped by `plain`.
"""
