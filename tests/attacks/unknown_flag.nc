‰NC1

#Eg‰«Íï<‡ÁF+TILEabccý0