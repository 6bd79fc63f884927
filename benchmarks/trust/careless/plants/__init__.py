"""The mistakes, one function each: it turns this month's export into a careless one, and its docstring says
how that happens to people.

    overlap    test rows among the training rows
    counts     rows and their number
    labels     labels and classes
    contents   what the rows hold
    handling   how the files are written, and how the model is trained
"""
