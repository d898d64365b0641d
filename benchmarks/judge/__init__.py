"""Does the judge tell bad releases from good ones, and better than the rules of its peers?"""
