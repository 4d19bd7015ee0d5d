"""What is kept between runs: decoded clips, and the features of frozen towers."""
