‰NC1

 #Eg‰«Íï<·TILEabccý0