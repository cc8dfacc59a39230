"""What a file says about itself: attributes read leniently, region and scope."""
